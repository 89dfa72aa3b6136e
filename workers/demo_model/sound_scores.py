"""Compare what is heard in clips with what happens in them, and count."""

from dataclasses import dataclass, field

import numpy as np

from workers.demo_model.config import FPS
from workers.demo_model.sound_law import CONTROL_RATE, Array, Track, spaced
from workers.demo_model.sound_listener import Transcript, Voice

ONSET_SECONDS = 0.0625
"""A click belongs to a contact that is at most this far away: half a native frame."""

UNSEEN_SECONDS = 0.3
"""Contacts so near a clip's end are not scored: the picture ends before it shows what came of them."""

PAN_ERROR = 0.05
"""A voice's place is right if it is on average at most this share of the picture's width beside the object."""

SEMITONE = 1 / 12


@dataclass
class Tally:
    """How often something was right."""

    right: int = 0
    asked: int = 0

    def count(self, right: bool) -> None:
        """Count one case."""
        self.right += right
        self.asked += 1

    def share(self) -> float:
        """The share of right cases, rounded to four places."""
        return round(self.right / max(self.asked, 1), 4)


@dataclass
class Scores:
    """Counts over many clips: clicks that belong to contacts, and voices whose pitch, place and timbre are right."""

    hits: int = 0
    clicks: int = 0
    contacts: int = 0
    tallies: dict[str, Tally] = field(
        default_factory=lambda: {name: Tally() for name in ("voices", "slope", "rank", "pan", "timbre")}
    )

    def add(self, transcript: Transcript, tracks: list[Track], seconds: float, *, timbre: bool = True) -> None:
        """Score a clip of so many seconds; `timbre` False where its shapes are not what was asked for."""
        hits, clicks, contacts = match_clicks(transcript, tracks, seconds)
        self.hits, self.clicks, self.contacts = self.hits + hits, self.clicks + clicks, self.contacts + contacts
        same = len(transcript.voices) == len(tracks)
        self.tallies["voices"].count(same)
        voices: list[Voice | None] = list(transcript.voices) if same else [None] * len(tracks)
        if timbre:
            self.tallies["timbre"].count(same and [v.shape for v in transcript.voices] == [t.shape for t in tracks])
        for voice, track in zip(voices, tracks, strict=True):
            self.tallies["pan"].count(voice is not None and pan_right(voice, track))
            if track.motion in ("grow", "shrink") and changes_size(track):
                self.tallies["slope"].count(voice is not None and slope_right(voice, track))
                self.tallies["rank"].count(voice is not None and rank_correlation(voice, track) >= 0.9)

    def f1(self) -> float:
        """The harmonic mean of precision and recall of clicks."""
        return round(2 * self.hits / max(self.clicks + self.contacts, 1), 4)


def match_clicks(transcript: Transcript, tracks: list[Track], seconds: float) -> tuple[int, int, int]:
    """How many clicks have a contact of their own, how many clicks there are, and how many contacts."""
    end = seconds - UNSEEN_SECONDS
    contacts = [each for each in spaced(np.array([each for track in tracks for each in track.contacts])) if each < end]
    clicks = [each for each in transcript.clicks if each < end]
    free = list(clicks)
    for contact in contacts:
        near = [click for click in free if abs(click - contact) <= ONSET_SECONDS]
        if near:
            free.remove(min(near, key=lambda click: abs(click - contact)))
    return len(clicks) - len(free), len(clicks), len(contacts)


def _sampled(row: Array, count: int) -> Array:
    """A track's row where a voice's points lie."""
    return np.interp(Transcript.times(count) * CONTROL_RATE, np.arange(len(row)), row)


def pan_right(voice: Voice, track: Track) -> bool:
    """Whether a voice sounds where its object is, and wanders the same way if that goes left or right."""
    place = _sampled(track.x, len(voice.pan))
    if float(np.abs(voice.pan - place).mean()) > PAN_ERROR:
        return False
    head = max(2, len(place) // 8)
    went, sounded = (float(np.median(row[-head:]) - np.median(row[:head])) for row in (place, voice.pan))
    return abs(went) < PAN_ERROR or went * sounded > 0


def changes_size(track: Track) -> bool:
    """Whether an object's size changes by more than two semitones' worth: a clip may begin when it has grown up."""
    return float(np.ptp(np.log2(track.radius))) > 2 * SEMITONE


def slope_right(voice: Voice, track: Track) -> bool:
    """Whether a voice rises by more than a semitone with an object that grows, or falls with one that shrinks."""
    return voice.octaves_gained() * (1 if track.motion == "grow" else -1) > SEMITONE


def rank_correlation(voice: Voice, track: Track) -> float:
    """Spearman's correlation of pitch and radius, over the time in which the radius changes."""
    radius = _sampled(track.radius, len(voice.pitch))
    changing = np.abs(np.gradient(radius)) > 1e-4
    if changing.sum() < FPS:
        return 1.0
    ranks = [row[changing].argsort().argsort() for row in (voice.pitch, radius)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
