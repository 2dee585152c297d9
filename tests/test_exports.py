"""What `import recorder` offers."""

from __future__ import annotations

import recorder


def test_the_package_exports_these_names_and_no_others() -> None:
    """A name added here is a promise."""
    assert recorder.__all__ == ["Archive", "Frame", "RecorderError", "open"]
    assert [name for name in recorder.__all__ if not hasattr(recorder, name)] == []
