"""Silent market data: asked for again, then anew; a hole if something was missed, a reconnect if it is dead."""

from __future__ import annotations

from itertools import pairwise

import pytest
from talk import AUTHENTICATED, SMD, SMD_NYSE, SUCCESS, Talk, full, market_data, ready, stamp

from recorder.protocol.connection_states import LOST, READY
from recorder.protocol.staleness import ANEW, ANSWER

BOTH = ["265598", "8314@NYSE"]
ANEW_BOTH = ["umd+265598+{}", SMD, "umd+8314@NYSE+{}", SMD_NYSE]


def asked(texts: list[str]) -> list[str]:
    """Leave the keep-alives out."""
    return [text for text in texts if text != "tic"]


def silent(seconds: float = 60.0) -> Talk:
    """Have a session whose two contracts spoke for ten minutes, and then nothing came for so long."""
    talk = ready(stale_after=60.0, renew_every=3600.0)
    talk.speak(300, *BOTH, every=2.0)
    talk.session.news(), talk.gaps()
    assert [] == asked(talk.wait(seconds - 1))
    return talk


def test_all_market_data_silent_is_asked_for_again() -> None:
    """After `stale_after`, each stream once."""
    talk = silent()

    assert [SMD, SMD_NYSE] == asked(talk.wait(2))
    assert [] == asked(talk.wait(3))
    assert ([], []) == (talk.said(), talk.gaps())


def test_a_full_frame_that_equals_what_was_known_means_that_nothing_was_missed() -> None:
    """No row is written, and nothing else is done; the next silence may be twice as long."""
    talk = silent()
    first, second = talk.quotes - 1, talk.quotes
    talk.wait(2)
    talk.hear(full("265598", bid=first), full("8314@NYSE", bid=second))

    assert ([], [], READY) == (talk.said(), talk.gaps(), talk.session.state)
    assert [] == asked(talk.wait(118))
    assert [SMD, SMD_NYSE] == asked(talk.wait(4))


def test_a_full_frame_with_other_values_shows_a_hole() -> None:
    """From the last frame to this one; the subscription had ended, and lives again."""
    talk = silent()
    last = talk.now - 59
    talk.wait(2)
    talk.hear(full("265598", bid=talk.quotes - 1), full("8314@NYSE", bid="other"))

    assert ["expired"] == talk.said()
    assert [("market_data", 8314, "subscription_expired", last, talk.now)] == talk.gaps()
    assert READY is talk.session.state


def test_a_renewal_without_an_answer_is_followed_by_a_new_subscription() -> None:
    """Whether the broker answers a renewal with a full frame is not confirmed; a new subscription it does."""
    talk = silent()
    talk.wait(2)
    assert ANEW_BOTH == asked(talk.wait(ANSWER))
    talk.hear(full("265598", bid=talk.quotes - 1), full("8314@NYSE", bid=talk.quotes))

    assert [] == asked(talk.wait(ANEW + 5))
    assert ([], [], READY) == (talk.said(), talk.gaps(), talk.session.state)


def test_silence_after_all_that_is_a_dead_connection() -> None:
    """Nobody knows how far it goes: each topic's gap begins with its last frame, that of orders where silence fell."""
    talk = silent()
    last = talk.now - 59
    before = talk.now - 1
    while talk.session.state is READY:
        talk.wait(1)

    assert (LOST, ["stale"]) == (talk.session.state, talk.said())
    assert [("market_data", None, "stale", last, None), ("orders", None, "stale", last, None)] == talk.gaps()[:2]
    assert talk.now - last <= 60 + ANSWER + ANEW + 3, "there is time to connect within 75 s"
    assert talk.now > before
    talk.session.farewell()
    talk.lose("we left")
    assert [] == talk.gaps()


def test_one_silent_stream_is_asked_for_while_others_speak() -> None:
    """The others are left alone."""
    talk = ready(stale_after=60.0)
    talk.speak(300, *BOTH, every=2.0)
    last = talk.now
    sent = asked(talk.speak(60, "265598"))
    assert [] == [text for text in sent if "8314" not in text]
    sent += asked(talk.speak(15, "265598"))

    assert [SMD_NYSE, "umd+8314@NYSE+{}", SMD_NYSE] == sent[:3]
    assert [("market_data", 8314, "stale", last, None)] == [gap for gap in talk.gaps() if gap[1] is not None]
    assert LOST is talk.session.state


def test_a_stream_may_be_as_slow_as_it_always_is() -> None:
    """Twenty of its own median intervals, if that is longer."""
    talk = ready(stale_after=60.0)
    for _ in range(20):
        talk.speak(10, "265598")
        talk.hear(market_data("8314@NYSE", **{"84": str(talk.now)}))
    assert [] == asked(talk.speak(190, "265598"))
    assert [SMD_NYSE] == asked(talk.speak(12, "265598"))[:1]


def test_a_burst_makes_no_stream_impatient() -> None:
    """Frames within a second count as one."""
    talk = ready(stale_after=60.0)
    for _ in range(20):
        talk.speak(10, "265598")
        for number in range(50):
            talk.hear(market_data("8314@NYSE", **{"84": str(number)}))

    assert [] == asked(talk.speak(150, "265598"))


def test_a_stream_that_changes_but_gives_no_full_frame_has_a_hole_that_is_over() -> None:
    """It lives, so that the connection does; what was missed is not known."""
    talk = ready(stale_after=60.0)
    talk.speak(300, *BOTH, every=2.0)
    last = talk.now
    talk.speak(62, "265598")
    talk.hear(market_data("8314@NYSE", **{"84": "9"}))
    spoke = talk.now
    talk.speak(12, "265598")

    assert [("market_data", 8314, "stale", last, spoke)] == talk.gaps()
    assert READY is talk.session.state


def test_a_state_that_is_not_known_proves_nothing() -> None:
    """Frames that came too fast to be looked at are followed by a silence: a hole, as far as anybody knows."""
    talk = ready(stale_after=60.0)
    talk.speak(300, *BOTH, every=2.0)
    frame = market_data("8314@NYSE", **{"84": "7"})
    talk.session.passed([(stamp(talk.now), 0, frame)], 1, talk.now)
    last = talk.now
    talk.speak(61, "265598")
    talk.hear(full("8314@NYSE", bid="7"))

    assert [("market_data", 8314, "subscription_expired", last, talk.now)] == talk.gaps()


def test_a_stale_stream_costs_the_connection_only_after_growing_pauses() -> None:
    """The others would suffer; meanwhile it is asked for again, and its gap stays open."""
    talk, lost = ready(stale_after=60.0), []
    began = talk.now
    while talk.now - began < 3600:
        talk.speak(1, "265598")
        if talk.session.state is LOST:
            lost.append(talk.now - began)
            talk.session.farewell()
            talk.lose()
            talk.reopen()
            talk.hear(full("265598"), full("8314@NYSE"))

    pauses = [round(later - earlier) for earlier, later in pairwise(lost)]
    assert pauses[0] < 100
    assert {300, 301, 302} >= set(pauses[4:])
    assert pauses == sorted(pauses)


def test_outside_of_session_hours_silence_means_nothing() -> None:
    """The calendar says when."""
    talk = silent()
    talk.session.streams.staleness.in_hours = False

    assert [] == asked(talk.wait(120))
    assert [] == talk.gaps()


def test_a_quiet_night_costs_a_renewal_now_and_then() -> None:
    """Each harmless silence may be followed by one twice as long, up to `renew_every`."""
    talk = ready(stale_after=60.0)
    renewals = 0
    for _ in range(3600 * 4):
        if SMD in talk.wait(1):
            renewals += 1
            talk.hear(full("265598"), full("8314@NYSE"))

    assert 30 <= renewals <= 36
    assert ([], []) == (talk.said(), talk.gaps())


def test_a_subscription_that_ended_before_its_renewal_is_a_hole() -> None:
    """The renewal brings other values after a silence that is long for this stream."""
    talk = ready(stale_after=300.0)
    talk.speak(440, *BOTH, every=2.0)
    last = talk.now
    assert [SMD, SMD_NYSE] == asked(talk.speak(40, "8314@NYSE"))
    talk.hear(full("265598", bid="other"), full("8314@NYSE", bid="whatever"))

    assert [("market_data", 265598, "subscription_expired", last, talk.now)] == talk.gaps()


@pytest.mark.parametrize("quiet", [0.0, 4.0])
def test_a_renewal_of_a_stream_that_speaks_shows_nothing(quiet: float) -> None:
    """What changed within its interval would have come with the next frame."""
    talk = ready(stale_after=300.0)
    talk.speak(478 - quiet, *BOTH, every=2.0)
    talk.wait(quiet)
    assert [SMD, SMD_NYSE] == asked(talk.wait(3))
    talk.hear(full("265598", bid="other"), full("8314@NYSE", bid="whatever"))

    assert ([], []) == (talk.said(), talk.gaps())


def test_a_silence_that_is_not_explained_when_the_connection_ends_is_a_hole() -> None:
    """Nothing is hidden by the end of a connection."""
    talk = ready(stale_after=60.0)
    talk.speak(300, *BOTH, every=2.0)
    last = talk.now
    talk.speak(62, "265598")
    talk.lose()

    assert ("market_data", 8314, "stale", last, None) in talk.gaps()


def test_a_connection_on_which_nothing_was_heard_is_not_stale() -> None:
    """That is a refusal, and no new connection would mend it."""
    talk = Talk(stale_after=60.0)
    talk.hear(SUCCESS, AUTHENTICATED)
    talk.wait(1000)

    assert READY is talk.session.state
    assert {"subscription_refused"} == {cause for _, _, cause, _, _ in talk.gaps()}
