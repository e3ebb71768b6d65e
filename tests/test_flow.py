from edge_agent.flow import ancestors, fed

HEALTH = {"e1": ("iot",), "f2": ("e1", "iot"), "f1": ("f2", "e1"), "cloud": ("f1", "f2")}


def test_who_is_fed_has_a_living_path_from_a_sensor():
    everyone = {"iot", "e1", "f2", "f1", "cloud"}
    assert fed(HEALTH, everyone) == everyone
    assert fed(HEALTH, everyone - {"e1"}) == {"iot", "f2", "f1", "cloud"}
    assert fed(HEALTH, {"iot", "f1", "cloud"}) == {"iot"}
    assert fed(HEALTH, everyone - {"iot"}) == set()


def test_ancestors_are_all_who_can_be_heard_through_others():
    assert ancestors(HEALTH, "cloud") == {"f1", "f2", "e1", "iot"}
    assert ancestors(HEALTH, "f2") == {"e1", "iot"}
    assert ancestors(HEALTH, "iot") == set()
