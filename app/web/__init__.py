"""The web pages: studio, account, console and prices. Rendered on the server; static files need no build step."""
