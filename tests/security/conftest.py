"""Every test of this folder that takes `setting` runs in one process and in a thread a party."""

import pytest
from settings import Setting


@pytest.fixture(params=[Setting(name, n) for name in ("virtual", "threads") for n in (2, 3)], ids=str)
def setting(request):
    return request.param
