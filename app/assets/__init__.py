"""Assets: uploaded pictures, clips and sounds. Every file is re-encoded before it is used."""
