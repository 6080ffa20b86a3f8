"""A reload takes over what may change while a server runs, and names the rest."""

import msgspec
import pytest

from broker.config.keys import read_schema
from broker.config.reload import is_reloaded, plan_reload
from broker.config.settings import HttpSettings, RoomRule, ServerSettings, Settings

KEYS = list(read_schema(Settings).plain_keys())


def with_value(settings, key, value):
    section = msgspec.structs.replace(getattr(settings, key.section), **{key.name: value})
    return msgspec.structs.replace(settings, **{key.section: section})


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.dotted)
def test_each_changed_key_is_taken_over_or_named(key):
    tls = ServerSettings(tls_cert_file="old", tls_key_file="old", tls_client_ca_file="old")
    present = Settings(server=tls, http=HttpSettings(metrics_key="old"))
    # The plan compares values; whether they are good is checked before.
    changed = with_value(present, key, "changed")
    plan = plan_reload(present, changed)
    if is_reloaded(key.dotted):
        assert (plan.settings, plan.reloaded, plan.needs_restart) == (changed, (key.dotted,), ())
    else:
        assert (plan.settings, plan.reloaded, plan.needs_restart) == (present, (), (key.dotted,))


def test_nothing_changed_is_nothing_to_do():
    plan = plan_reload(Settings(), Settings())
    assert (plan.settings, plan.reloaded, plan.needs_restart) == (Settings(), (), ())


@pytest.mark.parametrize(("old", "new"), [(None, "new"), ("old", None)])
def test_a_key_for_metrics_that_comes_or_goes_needs_a_restart(old, new):
    present = Settings(http=HttpSettings(metrics_key=old))
    plan = plan_reload(present, Settings(http=HttpSettings(metrics_key=new)))
    assert (plan.settings, plan.needs_restart) == (present, ("http.metrics_key",))


def test_room_rules_need_a_restart():
    plan = plan_reload(Settings(), Settings(rooms=(RoomRule(pattern="a"),)))
    assert (plan.settings, plan.needs_restart) == (Settings(), ("rooms",))
