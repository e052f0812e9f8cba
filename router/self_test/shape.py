"""What a test call is made of, in short: that one passed as it was before says nothing of how it is made now."""

import hashlib
import json
from dataclasses import asdict

from config.load import LoadedConfig
from config.schema import SiteConfig
from e911.provider_profile import ProviderProfile
from router.self_test.schedule import trunk_of

_NO_PART_OF_IT = {
    "route": {"name", "timeout", "progress_timeout", "covers"},
    # `auth` has a secret in it; of that only who we say we are is taken.
    "trunk": {"side", "probe", "auth", "location_from", "private_media", "registrar", "psap_callback"},
}
"""What of a section changes nothing of what the provider gets to see."""


def shape_of(loaded: LoadedConfig, site: SiteConfig, route: str) -> str:
    """A short name of how a test call of this site by this route is made: route, provider profile, trunk, and the
    site's address and callback number. Other settings, and a profile that only got keys that it does not use,
    leave it as it is. Empty where there is no such route.
    """
    config = loaded.config
    routes = site.routes if site.routes is not None else config.emergency.routes
    found = next((one for one in routes if one.name == route), None)
    trunk = config.trunks.get(trunk_of(config, site, route))
    if found is None or trunk is None:
        return ""
    usual = asdict(ProviderProfile(name=""))
    profile = asdict(loaded.profiles[found.profile]) if found.profile in loaded.profiles else {}
    made_of = {
        "route": found.model_dump(mode="json", exclude_defaults=True, exclude=_NO_PART_OF_IT["route"]),
        "profile": {
            key: value for key, value in profile.items() if value != usual[key] and key not in ("name", "description")
        },
        "trunk": trunk.model_dump(mode="json", exclude_defaults=True, exclude=_NO_PART_OF_IT["trunk"]),
        "user": trunk.auth.username if trunk.auth is not None else "",
        "site": site.model_dump(
            mode="json",
            exclude_defaults=True,
            include={"name", "address", "latitude", "longitude", "callback", "location_id", "endpoint_id"},
        ),
        "data": config.emergency.additional_data.model_dump(mode="json", exclude_defaults=True),
        "domain": config.own_domain,
    }
    made = json.dumps(made_of, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(made.encode()).hexdigest()[:16]
