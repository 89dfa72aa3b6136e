-- Move the quantiles of a model, kind and shape by one take (stochastic quantile approximation, after Robbins and
-- Monro): towards the sample, and further on the side where the quantile lies.
INSERT INTO paces AS t (model, kind, shape, samples, p50, p90, gpu_p50)
VALUES (:model, :kind, :shape, 1, CAST(:seconds AS numeric(14, 6)), CAST(:seconds AS numeric(14, 6)), CAST(:gpu_seconds AS numeric(14, 6)))
ON CONFLICT (model, kind, shape) DO UPDATE SET
    samples = t.samples + 1,
    p50 = t.p50 + :gain * (excluded.p50 - t.p50),
    p90 = t.p90 + 2 * :gain * CASE WHEN excluded.p90 > t.p90 THEN 0.9 ELSE 0.1 END * (excluded.p90 - t.p90),
    gpu_p50 = t.gpu_p50 + :gain * (excluded.gpu_p50 - t.gpu_p50)
