"""The users' table as the status shows it: `status.assignment`.

It is all that is needed to say of any user which version the proxy picks, and it is the memory
from which a new split moves the fewest users.
"""

from __future__ import annotations

from modelexperiment.core.allocation import SegmentTable
from modelexperiment.core.entries import Part
from modelexperiment.core.fields import ModelVersion
from modelexperiment.core.manifest import Experiment


class SlotShare(Part):
    """Neighbouring slots of one version, the same in every bucket."""

    model_version: ModelVersion
    """The version."""
    slots: int
    """How many of the 10,000."""


class UserTable(Part):
    """Who gets which version. A user's slot is xxHash64("SALT:USER") modulo 10,000."""

    header: str | None = None
    """The request header that names the user."""
    cookie: str | None = None
    """The cookie that names the user."""
    salt: str
    """The salt of the draw."""
    buckets: int
    """Hash buckets of the users, which a VirtualService's route stamps; 0 for none."""
    champion: ModelVersion
    """The champion that the table was laid for."""
    layout: list[SlotShare]
    """The slots from 0 to 9,999 in order. Of an ended experiment: what a restart goes back to."""

    @classmethod
    def of(cls, experiment: Experiment, table: SegmentTable) -> UserTable:
        """The table with the draw that the experiment's spec asks for."""
        assignment = experiment.spec.assignment
        assert assignment is not None
        return cls.model_validate(
            {
                "header": assignment.header,
                "cookie": assignment.cookie,
                "salt": experiment.salt,
                **table.to_state(),
            }
        )

    @property
    def table(self) -> SegmentTable:
        """The table itself; ValueError where the slots can't be a table's."""
        return SegmentTable.from_state(self.model_dump(by_alias=True))

    @property
    def drawn_by(self) -> str:
        """What the draw of the users hangs on, for people."""
        name = f"header {self.header}" if self.header else f"cookie {self.cookie}"
        return f"{name} with the salt {self.salt!r}"
