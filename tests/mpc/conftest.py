"""Every test of this folder that takes `setting` runs in all of them."""

import pytest
from settings import SECRET, SETTINGS


@pytest.fixture(params=SETTINGS, ids=str)
def setting(request):
    return request.param


@pytest.fixture(params=SECRET, ids=str)
def secret_setting(request):
    return request.param
