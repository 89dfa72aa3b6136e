"""Seeds of segments: each has its own, derived from the job's seed, and a retry uses the same one."""

from hashlib import sha256


def segment_seed(job_seed: int, shot: int, segment: int) -> int:
    """Return the seed of a segment, 0 <= seed < 2**63, from the job's seed and the two indices (from 0).

    Chained segments need different seeds (equal noise makes motion restart), and a retry on any worker needs the
    same one, so the seed is a hash of the segment's position and not of when or where it was rendered.
    """
    digest = sha256(f"cinemeter segment {job_seed} {shot} {segment}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
