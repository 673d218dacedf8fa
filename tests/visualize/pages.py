"""What is inside of the page of `visualize`."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any


def data_in(page: str) -> Any:
    """What the page is told, from its HTML text."""
    found = re.search(r'<script id="data" type="application/gzip">(.*?)</script>', page)
    assert found is not None
    return json.loads(gzip.decompress(base64.b64decode(found[1])))
