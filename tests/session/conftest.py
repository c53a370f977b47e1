import pytest
from networks import Office, close_all


@pytest.fixture(scope="session")
def office(tmp_path_factory):
    """An authority and certificates, made once."""
    return Office(tmp_path_factory.mktemp("office"))


@pytest.fixture(autouse=True)
def no_open_connections():
    yield
    close_all()
