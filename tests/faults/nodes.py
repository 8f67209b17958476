"""Three Ray nodes on this machine; the one whose worker's id appears in a file is taken away."""

import signal
import sys
import time
from pathlib import Path

from ray.cluster_utils import Cluster


def main() -> None:
    """Print the address, take the node of the worker that the file names, say so, and wait to be ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    victim = Path(sys.argv[1])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    try:
        print(cluster.address, flush=True)
        while not (victim.exists() and victim.read_text().strip()):
            time.sleep(0.05)
        worker = int(victim.read_text())
        parent = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        for node in nodes:
            raylet = node.all_processes["raylet"][0].process.pid
            if raylet == parent:
                cluster.remove_node(node, allow_graceful=False)
                print(f"lost {node.unique_id}", flush=True)
        while True:
            time.sleep(1)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
