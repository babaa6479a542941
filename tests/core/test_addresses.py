"""What may be called: exactly what the platform allowed, however an address is written."""

from __future__ import annotations

import pytest

from modelexperiment.core.addresses import forbidden, is_allowed, parse_address, same_address

SLACK = "https://hooks.example.com/services"


@pytest.mark.parametrize(
    "url",
    [
        SLACK,
        f"{SLACK}/",
        f"{SLACK}/T0/B0/x?thread=1",
        "https://HOOKS.example.com:443/services/T0",
        "https://hooks.example.com./services/T0",
    ],
)
def test_what_lies_below_an_allowed_address_is_allowed(url: str) -> None:
    assert is_allowed(url, [SLACK])


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/services/T0",
        "https://hooks.example.com/services-of-others",
        "https://hooks.example.com/",
        "https://hooks.example.com:8443/services/T0",
        "https://hooks.example.com.evil.test/services/T0",
        "https://evil.test/https://hooks.example.com/services",
        "https://hooks.example.com@evil.test/services/T0",
        "https://evil.test#@hooks.example.com/services/T0",
        "https://evil.test\\@hooks.example.com/services/T0",
        "https://hooks.example.com/services/../admin",
        "https://hooks.example.com/services/%2e%2e/admin",
        "https://hooks.example.com/services/%252e%252e/admin",
        "https://hooks.example.com/services/..%2fadmin",
        "https://hooks.example.com/services/T0\r\nHost: evil.test",
        "file:///services",
        "https:///services",
        "",
    ],
)
def test_nothing_else_is(url: str) -> None:
    assert not is_allowed(url, [SLACK])


def test_an_entry_without_a_scheme_is_https() -> None:
    assert is_allowed("https://hooks.example.com/x", ["hooks.example.com"])
    assert not is_allowed("http://hooks.example.com/x", ["hooks.example.com"])


def test_without_entries_nothing_is_allowed() -> None:
    assert not is_allowed(SLACK, [])


@pytest.mark.parametrize(
    "url",
    [
        "http://2852039166/",
        "http://169.254.43518/",
        "http://0251.0376.0251.0376/",
        "http://999.1.1.1/",
        "http://host:99999/",
        "http://host:0/",
    ],
)
def test_a_number_in_place_of_a_host_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        parse_address(url)


def test_literal_addresses_are_hosts() -> None:
    assert parse_address("http://10.0.0.7:9093/am/").host == "10.0.0.7"
    assert parse_address("http://[fd00::7]:9093").host == "fd00::7"


def test_the_same_address_written_otherwise() -> None:
    assert same_address("http://prometheus:80/", "http://Prometheus")
    assert not same_address("http://prometheus/a", "http://prometheus")
    assert not same_address("http://prometheus?x=1", "http://prometheus")
    assert not same_address("no url", "no url")


@pytest.mark.parametrize(
    "found",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "168.63.129.16",
        "100.100.100.200",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "no address",
    ],
)
def test_an_allowed_name_does_not_lead_just_anywhere(found: str) -> None:
    assert forbidden("hooks.example.com", found)


@pytest.mark.parametrize("found", ["10.0.0.7", "192.168.1.1", "203.0.113.5", "2001:db8::1"])
def test_it_may_lead_into_the_cluster_and_out_of_it(found: str) -> None:
    assert forbidden("hooks.example.com", found) is None


def test_the_own_machine_is_called_where_the_address_says_so() -> None:
    assert forbidden("localhost", "127.0.0.1") is None
    assert forbidden("127.0.0.1", "127.0.0.1") is None
    assert forbidden("169.254.169.254", "169.254.169.254")
