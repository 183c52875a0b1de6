"""Prometheus metrics, read from the statistics when they are asked for: requests pay nothing for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .connections import Connections
from .descriptors import SocketGuard
from .model import Model
from .service import Service
from .shadow import OUTCOMES as SHADOW_OUTCOMES
from .shadow import QUANTILES, Shadow
from .statistics import BOUNDS, OUTCOMES

_MODEL = ("model", "version")
_SAMPLES, _OUTPUT = (*_MODEL, "outcome"), (*_MODEL, "output")


def metrics_registry(service: Service, ports: Sequence[Connections], sockets: SocketGuard) -> CollectorRegistry:
    """A registry with the server's metrics and those of the process."""
    registry = CollectorRegistry()
    registry.register(ServiceCollector(service, ports, sockets))
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


class ServiceCollector(Collector):
    """The service's numbers as metric families."""

    def __init__(self, service: Service, ports: Sequence[Connections], sockets: SocketGuard) -> None:
        self._service, self._ports, self._sockets = service, ports, sockets

    def describe(self) -> list[Metric]:
        """Nothing ahead of time: the service may not have started."""
        return []

    def collect(self) -> Iterator[Metric]:
        models = self._service.registry.list_loaded()
        yield from self._server()
        yield from _queues(models)
        yield from _work(models)
        yield _latency(models)
        if self._service.shadow:
            yield from _shadow(self._service.shadow)

    def _server(self) -> Iterator[Metric]:
        service = self._service
        requests = CounterMetricFamily("apa_requests", "Answers by protocol and code", labels=("protocol", "code"))
        for (protocol, code), count in sorted(service.codes.items()):
            requests.add_metric((protocol, code), count)
        yield requests
        yield GaugeMetricFamily("apa_connections", "HTTP connections", value=sum(map(len, self._ports)))
        yield GaugeMetricFamily("apa_grpc_calls", "Open calls over gRPC", value=self._sockets.calls)
        ended = CounterMetricFamily("apa_connections_ended", "Ended: idle at the limit, or not reading")
        ended.add_metric((), self._sockets.ended + sum(port.ended for port in self._ports))
        yield ended
        yield GaugeMetricFamily("apa_ready", "1 when new requests should be sent here", value=float(service.ready))
        yield GaugeMetricFamily("apa_pending_bytes", "Memory of requests and answers", value=service.budget.taken)


def _queues(models: list[Model]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("apa_queue_requests", "Requests that wait", labels=_MODEL)
    limit = GaugeMetricFamily("apa_queue_limit", "Requests that may wait", labels=_MODEL)
    executing = GaugeMetricFamily("apa_executing", "Instances at work", labels=_MODEL)
    hanging = GaugeMetricFamily("apa_hanging", "Instances that do not end their execution", labels=_MODEL)
    for model in models:
        waiting.add_metric(_labels(model), model.batcher.waiting)
        limit.add_metric(_labels(model), model.batcher.limit)
        executing.add_metric(_labels(model), model.batcher.executing)
        hanging.add_metric(_labels(model), model.batcher.hanging)
    yield from (waiting, limit, executing, hanging)


def _work(models: list[Model]) -> Iterator[Metric]:
    outcomes = CounterMetricFamily("apa_model_requests", "Requests by outcome", labels=(*_MODEL, "outcome"))
    rows = CounterMetricFamily("apa_inferences", "Rows inferred", labels=_MODEL)
    executions = CounterMetricFamily(
        "apa_executions", "Executions; inferences / executions: mean batch", labels=_MODEL
    )
    queue = CounterMetricFamily("apa_queue_seconds", "Time that requests waited", labels=_MODEL)
    compute = CounterMetricFamily("apa_compute_seconds", "Time that requests were executed", labels=_MODEL)
    for model in models:
        statistics, labels = model.statistics, _labels(model)
        for outcome in OUTCOMES:
            outcomes.add_metric((*labels, outcome), statistics.outcomes[outcome])
        rows.add_metric(labels, statistics.rows)
        executions.add_metric(labels, statistics.executions)
        queue.add_metric(labels, statistics.queue.ns / 1e9)
        compute.add_metric(labels, statistics.phases.compute_infer.ns / 1e9)
    yield from (outcomes, rows, executions, queue, compute)


def _shadow(shadow: Shadow) -> Iterator[Metric]:
    samples = CounterMetricFamily("apa_shadow_samples", "Sampled requests by what became of them", labels=_SAMPLES)
    error = GaugeMetricFamily("apa_shadow_error", "Quantiles of the relative error", labels=(*_OUTPUT, "quantile"))
    limit = GaugeMetricFamily("apa_shadow_limit", "What the relative error should stay below", labels=_OUTPUT)
    agreement = GaugeMetricFamily("apa_shadow_top1_agreement", "Rows whose best class is the same", labels=_OUTPUT)
    for (name, version), findings in sorted(shadow.findings.items()):
        labels = (name, str(version))
        for outcome in SHADOW_OUTCOMES:
            samples.add_metric((*labels, outcome), findings.outcomes[outcome])
        for output, value in findings.limits.items():
            limit.add_metric((*labels, output), value)
        for output, errors in list(findings.errors.items()):
            values = np.quantile(list(errors), QUANTILES, method="higher")
            for quantile, value in zip(QUANTILES, values, strict=True):
                error.add_metric((*labels, output, f"{quantile:g}"), float(value))
        for output, same in list(findings.agreement.items()):
            if same:
                agreement.add_metric((*labels, output), sum(same) / len(same))
    yield from (samples, error, limit, agreement)


def _latency(models: list[Model]) -> Metric:
    family = HistogramMetricFamily("apa_request_duration_seconds", "Successful requests", labels=_MODEL)
    for model in models:
        counts = list(accumulate(model.statistics.latency))
        names = [*map(str, BOUNDS), "+Inf"]
        buckets = list(zip(names, counts, strict=True))
        family.add_metric(_labels(model), buckets, sum_value=model.statistics.success.ns / 1e9)
    return family


def _labels(model: Model) -> tuple[str, str]:
    return model.name, str(model.version)
