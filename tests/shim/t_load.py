# SPDX-License-Identifier: Apache-2.0
"""A few seconds of each case of tests/soak (./dev soak), which has what each means and its full measure."""

from tests.soak import t_answers, t_cycles, t_deaths, t_frames
from tests.support import load


def test_a_slow_hook(lab):
    t_answers.a_slow_hook(lab, 1)


def test_a_long_compile(lab):
    t_answers.a_long_compile(lab, 1, 60)


def test_a_root_file_system_that_hangs(lab):
    t_answers.a_hung_root(lab, 1)


def test_a_flood_with_a_stopped_reader(lab):
    t_answers.a_flood_with_a_stopped_reader(lab, 32 << 20)


def test_lives_in_one_pod(lab):
    t_cycles.lives(lab, 100, 8, one_pod=True)


def test_lives_of_pods(lab):
    t_cycles.lives(lab, 24, 4, one_pod=False)


def test_pods_alive_at_once(lab):
    t_cycles.pods_alive_at_once(lab, 12)


def test_execs(lab):
    t_cycles.execs(lab, 200, 4)


def test_wrong_frames(lab):
    t_frames.wrong_frames(lab, 500)


def test_clients_that_hang_in_a_frame(lab):
    t_frames.clients_that_hang_in_a_frame(lab, 50)


def test_a_client_that_reads_nothing(lab):
    t_frames.a_client_that_reads_nothing(lab)


def test_idle_connections_and_few_descriptors(lab):
    t_frames.idle_connections(lab, 3000, files=1024)


def test_the_shim_killed_native(lab):
    t_deaths.shim_killed(lab, load.NATIVE, 4, 3)


def test_the_shim_killed_wasm(lab):
    t_deaths.shim_killed(lab, load.WASM, 4, 4)


def test_containerd_killed_under_tasks(lab):
    t_deaths.containerd_killed(lab, 6, 1)


def test_no_event_is_lost_or_doubled(lab):
    t_deaths.no_event_is_lost_or_doubled(lab, 40, 4, 0.2)
