#!/usr/bin/env python3
"""A policy in Python: what the most tasks wait for comes first, of equals what takes the longest.
    windrow simulate GRAPH --policy program:examples/policy.py [--machines M.toml]
    windrow build x.drv --policy program:examples/policy.py
"""
import json
import sys

tasks, dependents, waiting = {}, {}, set()


def rank(task):
    """The smallest comes first."""
    seconds = tasks[task]["estimate"] or 0
    return -dependents.get(task, 0) - seconds / (seconds + 1)


def place(machines):
    """Each waiting task, in order, to the machine with the most free cores, if it has enough."""
    for task in sorted(waiting, key=rank):
        cores, memory = tasks[task]["cores"][0], tasks[task]["memory"]
        number = max(range(len(machines)), key=lambda n: machines[n]["cores"])
        best = machines[number]
        if best["cores"] >= cores and (best["memory"] is None or best["memory"] >= memory):
            best["cores"] -= cores
            waiting.remove(task)
            yield {"task": task, "machine": number}


for message in map(json.loads, sys.stdin):
    for task in message.get("tasks", []):
        tasks[task["id"]] = task
        for before in task["after"]:
            dependents[before] = dependents.get(before, 0) + 1
    if message["type"] == "rank":
        print(json.dumps({"ranks": {task: rank(task) for task in message["ready"]}}), flush=True)
    elif message["type"] == "place":
        waiting.update(message["ready"])
        print(json.dumps({"place": list(place(message["machines"]))}), flush=True)
