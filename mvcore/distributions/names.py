"""The families of latents and their scale maps, by the names that configs use; imports no torch."""

from typing import Literal

Family = Literal["normal", "laplace"]
ScaleMap = Literal["exp", "softmax"]
