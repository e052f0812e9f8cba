"""Plan images that people upload: read as pixels and written anew, so that nothing else in the file survives."""

import io
import warnings

from PIL import Image

from router.store.zone_plans import ZonePlan

MOST_BYTES = 5 * 1024 * 1024
MOST_PIXELS = 40_000_000
LONGEST_SIDE = 2400
_FORMATS = ("PNG", "JPEG")


class PlanError(ValueError):
    """It is no image that is taken; `key` is the text in the catalogue that says why."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


def read_plan(data: bytes) -> ZonePlan:
    """The image, made smaller where it is large. Raises PlanError."""
    if not data:
        raise PlanError("plans.nothing")
    if len(data) > MOST_BYTES:
        raise PlanError("plans.too_large")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of bombs at half of what it refuses
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise PlanError("plans.too_large")
                form = "PNG" if image.format == "PNG" else "JPEG"
                pixels = image.convert("RGB")
    except PlanError:
        raise
    except Exception as error:  # whatever a decoder makes of a file that somebody made up
        raise PlanError("plans.no_image") from error
    pixels.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    written = io.BytesIO()
    if form == "PNG":
        pixels.save(written, "PNG", optimize=True)
    else:
        pixels.save(written, "JPEG", quality=85)
    return ZonePlan(
        media_type=f"image/{form.lower()}", width=pixels.width, height=pixels.height, image=written.getvalue()
    )
