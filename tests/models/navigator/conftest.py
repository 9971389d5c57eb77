"""Everything here needs transformers: say so aloud where it is missing."""

from importlib.util import find_spec

import pytest

collect_ignore = []


def pytest_collection_modifyitems(items):
    if find_spec("transformers") is None:
        reason = "transformers is not installed: pip install 'sterna[vlm]' to test the navigator"
        for item in items:
            if "models/navigator" in str(item.path) and item.path.name != "test_wording.py":
                item.add_marker(pytest.mark.skip(reason=reason))
