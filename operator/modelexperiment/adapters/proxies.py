"""Whether requests are to go through a proxy that the environment names."""

from __future__ import annotations

from urllib.request import getproxies


def behind_proxy() -> bool:
    """Whether aiohttp must look into the environment for one (`trust_env`).

    It then looks at each request, and reads ~/.netrc as well, which took a tenth of the
    operator's CPU.
    """
    return bool(getproxies())
