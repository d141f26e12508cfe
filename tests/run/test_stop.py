"""Signals: the first is a wish, the second is not, and afterwards all is as before."""

from __future__ import annotations

import signal

import pytest

from pcdarts_fast.run.stop import SIGNALS, StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_interrupts_and_the_handlers_of_before_come_back(number):
    before = [signal.getsignal(known) for known in SIGNALS]
    with StopRequest() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop() and stop.signal == number
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert [signal.getsignal(known) for known in SIGNALS] == before


@pytest.mark.usefixtures("hang_ups")
def test_a_hang_up_is_no_second_signal_and_has_none():
    with StopRequest() as stop:
        for _ in range(2):
            signal.raise_signal(signal.SIGHUP)
            assert stop() and stop.signal == signal.SIGHUP
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
            assert stop.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_is_ignored_stays_so(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(number)
            assert not stop()
    finally:
        signal.signal(number, before)
