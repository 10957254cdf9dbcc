"""GPUs of pods, as dcgm-exporter's series tell of them."""

from __future__ import annotations

from heteroscale_coordinator.core.spec.matchers import matchers
from heteroscale_coordinator.edge.prometheus.gpus import MOST_PODS, PodGpus, by_pod, matches


def gpu(uuid: str, name: str = "DCGM_FI_DEV_GPU_UTIL", **labels: str) -> dict[str, str]:
    return {"__name__": name, "UUID": uuid, "modelName": "NVIDIA H20", **labels}


def test_each_gpu_of_a_pod_counts_once() -> None:
    found = by_pod(
        [
            gpu("a", exported_pod="d-0", pod="exporter-1"),
            gpu("a", "DCGM_FI_DEV_FB_USED", exported_pod="d-0", pod="exporter-1"),
            gpu("b", exported_pod="d-0", pod="exporter-1"),
            gpu("c", pod="d-1"),
            gpu("d", GPU_I_ID="1", pod="d-2"),
            gpu("d", GPU_I_ID="2", pod="d-2"),
        ]
    )
    assert found == {
        "d-0": PodGpus("NVIDIA H20", 2),
        "d-1": PodGpus("NVIDIA H20", 1),
        "d-2": PodGpus("NVIDIA H20", 2),
    }


def test_what_names_no_pod_or_no_gpu_tells_nothing() -> None:
    assert by_pod([gpu("a"), {"__name__": "DCGM_FI_DEV_GPU_UTIL", "pod": "x"}]) == {}
    (one,) = by_pod([{"pod": "x", "Hostname": "n1", "gpu": "0"}]).values()
    assert one == PodGpus("", 1)


def test_selectors_name_the_pods_and_only_them() -> None:
    first, second = matches(["a.b", "c"])
    rule = matchers(first)
    assert all(m.accepts({"__name__": "DCGM_FI_DEV_FB_USED", "exported_pod": "a.b"}) for m in rule)
    assert not all(
        m.accepts({"__name__": "DCGM_FI_DEV_FB_USED", "exported_pod": "aXb"}) for m in rule
    )
    assert 'pod=~"' in second
    assert matches([]) == matches(["x"] * (MOST_PODS + 1)) == ()
