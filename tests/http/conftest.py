"""Fixtures of the raw-socket tests; other files bring their own, with settings of their own."""
import pytest

from lakehouse_server import Server


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


@pytest.fixture
def start():
    """Starts servers with settings of the test's own, and ends them."""
    running = []

    def start_one(*sets, **options):
        running.append(Server(*sets, **options))
        return running[-1]

    yield start_one
    for one in running:
        one.end()
