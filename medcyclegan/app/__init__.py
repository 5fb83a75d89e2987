"""A local web page on which a user uploads, translates and views a scan; extra ``app``.

The server listens on the loopback only. Each open page has a folder, which is removed when the page is closed. Files
from the browser are read in other processes, which end with the page.
"""
