import pytest
from remotes import Office, Workers


@pytest.fixture(scope="session")
def office(tmp_path_factory):
    """An authority and certificates, made once."""
    return Office(tmp_path_factory.mktemp("office"))


@pytest.fixture(scope="module")
def workers(office):
    """alice, bob and the provider."""
    with Workers(office.folder) as found:
        yield found


@pytest.fixture(scope="module")
def three(office):
    """alice, bob, carol and the provider."""
    with Workers(office.folder, ("alice", "bob", "carol")) as found:
        yield found


@pytest.fixture
def parties(workers):
    with workers.connect() as found:
        yield found
