import shutil

from fixtures.browsers import axe, browser
from fixtures.jvm import jvm
from fixtures.served_pages import open_page, page_server, shared_page

__all__ = ["axe", "browser", "jvm", "open_page", "page_server", "shared_page"]

# Its toolchain is two gigabytes, which Debian has since release 13 (`apt install swiftlang`):
# docs/bundles.md says what was executed where there is none.
collect_ignore = [] if shutil.which("swift") else ["test_swift.py"]
