from fixtures.browsers import axe, browser
from fixtures.served_pages import open_page, page_server, shared_page

__all__ = ["axe", "browser", "open_page", "page_server", "shared_page"]
