# SPDX-License-Identifier: Apache-2.0
"""Many containers: lives one after the other and side by side, in one pod and in many, and many pods at once. All of
them succeed, with the right codes, and the shims do not grow."""

import os
import threading
import time

from tests.shim import t_acceptance, t_collector
from tests.support import load, ttrpc
from tests.support.runner import check, equal, eventually


def flat(before, after, what, kilobytes=512):
    check(after["fds"] <= before["fds"], f"{what}: descriptors {before['fds']} -> {after['fds']}")
    check(after["threads"] <= max(4, before["threads"]), f"{what}: threads {before['threads']} -> {after['threads']}")
    check(after["kB"] - before["kB"] < kilobytes, f"{what}: memory {before['kB']} -> {after['kB']} kB")


def lives(lab, total, parallel, one_pod):
    warm = max(parallel, total // 10)
    cycles = load.Cycles(lab, warm, parallel, one_pod)
    try:
        if not one_pod:
            cycles.total = total
            return cycles.run()
        cycles.run()
        before = load.settled(cycles.pod.shim)
        cycles.total += total
        begun = time.monotonic()
        cycles.run()
        seconds = time.monotonic() - begun
        after = load.settled(cycles.pod.shim)
        print(f"     {total} lives, {parallel} side by side, one pod: {total / seconds:.0f} a second; before {before}, after {after}")
        flat(before, after, f"{total} lives, {parallel} side by side")
    finally:
        cycles.close()


def pods_alive_at_once(lab, count):
    """Each a shim with one container, native or wasm; all answer, and all end."""
    pods, begun = [], time.monotonic()
    try:
        for i in range(count):
            pod = load.Pod(lab)
            pods.append(pod)
            kind = load.WASM if i % 4 == 3 else load.NATIVE
            pod.run(pod.id, [load.PROGRAM[kind], *(["daemon"] if kind == load.WASM else ["pause"])])
        seconds = time.monotonic() - begun
        for pod in pods:
            equal(pod.client.call("State", (1, pod.id))[4], [2], f"{pod.id} runs")
            equal(len(pod.client.call("Pids", (1, pod.id))[1]), 1, f"{pod.id}: pids")
        time.sleep(1)
        native = [load.sizes(pod.shim) for i, pod in enumerate(pods) if i % 4 != 3]
        print(f"     {count} pods in {seconds:.1f} s; a shim: {sum(s['kB'] for s in native) // len(native)} kB of its own, "
              f"at most {max(s['threads'] for s in native)} threads, {max(s['fds'] for s in native)} descriptors")
        check(max(s["threads"] for s in native) <= 4, f"threads of an idle shim: {native[0]}")
    finally:
        for pod in pods:
            pod.close()


def execs(lab, total, parallel):
    """Execs of one container, from many clients: a probe's life."""
    pod = load.Pod(lab)
    errors = []
    try:
        pod.run(pod.id, ["/bin/demo", "pause"])

        def work(worker, number):
            try:
                client = ttrpc.Client(pod.socket)
                for i in range(number):
                    name = f"e{worker}-{i}"
                    pod.exec(pod.id, name, ["/bin/demo", "exit", str(i % 50)], client=client)
                    equal(client.call("Wait", (1, pod.id), (2, name)).get(1, [0])[0], i % 50, f"{name}: status")
                    equal(client.code_of("Delete", (1, pod.id), (2, name)), (0, ""))
                client.close()
            except Exception as error:  # told below
                errors.append(f"{type(error).__name__}: {error}")

        def all_of(number):
            threads = [threading.Thread(target=work, args=(f"{number}-{w}", number // parallel)) for w in range(parallel)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            check(not errors, f"{len(errors)} workers: {errors[:1]}")
        all_of(total // 5)
        before = load.settled(pod.shim)
        all_of(total)
        flat(before, load.settled(pod.shim), f"{total} execs")
    finally:
        pod.close()


def test_a_thousand_lives_in_one_pod_4_side_by_side(lab):
    lives(lab, 1000, 4, one_pod=True)


def test_a_thousand_lives_in_one_pod_32_side_by_side(lab):
    lives(lab, 1000, 32, one_pod=True)


def test_a_thousand_pods_4_side_by_side(lab):
    lives(lab, 1000, 4, one_pod=False)


def test_a_thousand_pods_32_side_by_side(lab):
    lives(lab, 1000, 32, one_pod=False)


def test_200_pods_alive_at_once(lab):
    pods_alive_at_once(lab, 200)


def test_a_server_that_nobody_comes_to_leaves(lab):
    """Its guard: sixty seconds without a container and without a client, as after an answer that containerd did not understand."""
    pod = load.Pod(lab)
    pod.client.close()
    time.sleep(50)
    check(os.path.exists(f"/proc/{pod.shim}"), "it has left early")
    eventually(lambda: not os.path.exists(f"/proc/{pod.shim}"), 20, "it leaves")
    check(not os.path.exists(pod.socket), "its socket is left")


def test_the_last_line_on_a_terminal_1000_times(lab):
    t_acceptance.last_lines(lab, 1000)


def test_a_scrape_of_100_tasks(lab):
    t_collector.scrape(lab, 100)


def test_5000_execs(lab):
    execs(lab, 5000, 8)
