"""The pages: studio, account, console and prices, rendered on the server and served without a build step."""
