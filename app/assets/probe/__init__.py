"""Re-encode a customer's file in a confined process of its own.

`python -m app.assets.probe FILE FOLDER READER KIND` writes the new file into FOLDER and prints its facts as JSON:
`{"file": …, "kind": …, …}`, or `{"refused": "why"}`. `app.assets.sandbox_probe` starts it.

The file is hostile until it is re-encoded. Only the named reader may open it, by a handle and not by a name; files that
it refers to (playlists, data references, other protocols) are never opened; decoders are an allow-list; sizes are
checked in the header, before any picture is decoded; memory, CPU time and file sizes are limited by the kernel.
"""
