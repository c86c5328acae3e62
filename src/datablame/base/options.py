"""Headings of the command line's options: ten stand first, the rest under these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Group, Parameter

SOURCE = Group("Reading the set", sort_key=10)
PART = Group("Training on a part", sort_key=15)
TRAINING = Group("How it is trained", sort_key=20)
RECORDING = Group("What is recorded", sort_key=30)
JUDGED = Group("How it is judged", sort_key=32)
PROOF = Group("Whether cleaning helps", sort_key=35)
TRIAL = Group("For a trial with known wrong labels", sort_key=40)

Labels = Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())]
ReadingInt = Annotated[int | None, Parameter(group=SOURCE)]
ReadingText = Annotated[str | None, Parameter(group=SOURCE)]
Leaks = Annotated[bool, Parameter(group=SOURCE)]
Share = Annotated[float | None, Parameter(group=SOURCE)]
Number = Annotated[int, Parameter(group=TRAINING)]
Real = Annotated[float, Parameter(group=TRAINING)]
Text = Annotated[str, Parameter(group=TRAINING)]
Kept = Annotated[int, Parameter(group=RECORDING)]
Way = Annotated[str, Parameter(group=RECORDING)]
Judge = Annotated[str, Parameter(group=JUDGED)]
Signals = Annotated[Sequence[str], Parameter(consume_multiple=True, negative=(), group=JUDGED)]
Proof = Annotated[int, Parameter(group=PROOF)]
Noise = Annotated[str | None, Parameter(group=TRIAL)]
Amount = Annotated[float, Parameter(group=TRIAL)]
Truth = Annotated[str | None, Parameter(group=TRIAL)]
