"""A busy host as an agent sees it: eight GPUs, eight ports, four engines, figures as real ones show."""

from __future__ import annotations

import random
from functools import reduce

from heteroscale.words import GpuHealth, ScrapeQuality
from heteroscale_agent.model import (
    EngineReport,
    EngineScrape,
    GpuReading,
    HostReading,
    LatencyReading,
    NicCounters,
    NicReading,
    Report,
)
from heteroscale_agent.nics import NicSampler
from heteroscale_agent.sample import EngineSampler, merge

GPUS, NICS = 8, 8
TTFT_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0),
)
TBT_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)


class BusyHost:
    """Draws one second after another; counters have grown for months."""

    def __init__(self, instance_ids: list[str], seed: int = 1) -> None:
        self._rng = random.Random(seed)  # noqa: S311
        self._at = 1_000_000.0
        self._engines = {name: (EngineSampler(), Engine(self._rng)) for name in instance_ids}
        self._nics = [NicSampler() for _ in range(NICS)]
        self._octets = [self._rng.randrange(10**15, 10**16) for _ in range(NICS)]

    def samples(self, count: int) -> list[Report]:
        """Return so many samples, a second apart, of a host that has run for months."""
        self._sample()
        self._at += 5_000_000.0
        self._octets = [octets + self._rng.randrange(10**16) for octets in self._octets]
        for _, engine in self._engines.values():
            engine.work(5_000_000.0)
        self._sample()
        return [self._sample() for _ in range(count)]

    def report(self, samples: int = 5) -> Report:
        """Return what is reported after so many samples: all of them in one."""
        return reduce(merge, self.samples(samples))

    def _sample(self) -> Report:
        rng = self._rng
        self._at += 1.0
        return Report(
            sampled_at=self._at,
            interval=1.0,
            gpus=tuple(self._gpu() for _ in range(GPUS)),
            nics=tuple(self._nic(index) for index in range(NICS)),
            host=HostReading(
                rng.uniform(5, 60), rng.randrange(10**11, 2 * 10**12), rng.uniform(1, 99)
            ),
            engines=tuple(
                self._fold(name, sampler, engine)
                for name, (sampler, engine) in self._engines.items()
            ),
        )

    def _fold(self, name: str, sampler: EngineSampler, engine: Engine) -> EngineReport:
        engine.work(1.0)
        sampler.fold(engine.scrape(), self._at)
        return sampler.report(name, ScrapeQuality.OK, self._rng.uniform(0, 1))

    def _gpu(self) -> GpuReading:
        rng = self._rng
        return GpuReading(
            GpuHealth.OK,
            utilization_percent=rng.randint(60, 100),
            memory_utilization_percent=rng.randint(20, 100),
            memory_used_bytes=rng.randrange(60 << 30, 141 << 30),
            power_watts=rng.uniform(200, 700),
            temperature_celsius=rng.randint(40, 85),
            ecc_uncorrected=0,
            process_count=2,
            sm_activity_percent=rng.uniform(10, 95),
        )

    def _nic(self, index: int) -> NicCounters:
        self._octets[index] += self._rng.randrange(30 * 10**9)
        octets = self._octets[index]
        reading = NicReading(
            at=self._at,
            active=True,
            rate_bps=400 * 10**9,
            received_octets=octets,
            sent_octets=octets * 3 // 4,
            errors={"out_of_buffer": 17},
            congestion_marks={"np_cnp_sent": octets // 10**9},
            retransmissions={"packet_seq_err": octets // 10**10},
            link_downed=1,
            xmit_wait=octets // 10**6,
        )
        return self._nics[index].fold(reading)


class Engine:
    """One engine's counters and histograms."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._tokens = self._prompt = self._finished = 0.0
        self._ttft = [0.0] * (len(TTFT_BOUNDS) + 1)
        self._tbt = [0.0] * (len(TBT_BOUNDS) + 1)

    def work(self, seconds: float) -> None:
        """Serve for so long."""
        rng = self._rng
        tokens = rng.randrange(2_000, 4_000) * seconds
        self._tokens += tokens
        self._prompt += rng.randrange(8_000, 30_000) * seconds
        self._finished += rng.randrange(5, 30) * seconds
        for _ in range(30):
            self._ttft[min(len(TTFT_BOUNDS), int(rng.lognormvariate(2.2, 0.4)))] += round(seconds)
        for _ in range(60):
            step = min(len(TBT_BOUNDS), int(rng.lognormvariate(0.7, 0.7)))
            self._tbt[step] += round(tokens / 60)

    def scrape(self) -> EngineScrape:
        """Return what its metrics say."""
        rng = self._rng
        return EngineScrape(
            generation_tokens=self._tokens,
            prompt_tokens=self._prompt,
            computed_prompt_tokens=self._prompt * 2 // 3,
            requests_finished=self._finished,
            requests_aborted=12.0,
            running=float(rng.randrange(200)),
            waiting=float(rng.randrange(30)),
            transferring=float(rng.randrange(10)),
            kv_usage=rng.random(),
            time_to_first_token=_latency(self._ttft, TTFT_BOUNDS),
            time_between_tokens=_latency(self._tbt, TBT_BOUNDS),
        )


def _latency(counts: list[float], bounds: tuple[float, ...]) -> LatencyReading:
    total = sum(
        count * bound for count, bound in zip(counts, (*bounds, 2 * bounds[-1]), strict=True)
    )
    return LatencyReading(total * 0.731, sum(counts), bounds, tuple(counts))
