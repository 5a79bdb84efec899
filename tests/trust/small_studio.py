"""A visit to the studio: `python -m tests.trust.small_studio ARTEFACTS FOLDER` serves it and uploads, asks, deletes.

FOLDER is where its private folder is made.
"""

import sys
from pathlib import Path

from tests.support.studio_browser import served

ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    artefacts, folder = Path(sys.argv[1]), Path(sys.argv[2])
    data = (ROOT / "samples" / "drum.jpg").read_bytes()
    with served(artefacts, folder) as server:
        browser = server.browser()
        for _ in range(2):
            photo = browser.upload(data, "drum.jpg").json["photo"]
            for kind, wish in (("refocus", {"level": 0}), ("result", {})):
                reply = browser.wish(photo, kind, focus=[0.4, 0.6], f_number=1.4, **wish)
                assert reply.status == 200, reply.body[:200]
            assert browser.ask("DELETE", f"/api/photos/{photo}").status == 204
