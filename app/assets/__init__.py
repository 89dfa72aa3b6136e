"""Assets: pictures, clips and sounds that customers bring. Nothing of theirs is used before it was re-encoded."""
