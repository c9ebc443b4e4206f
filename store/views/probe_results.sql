-- How well can the label of each labelled data set be read, where, and does the dictionary help? The latest probe of
-- each set by model, estimator and what was read. `surface` is the best that length, rarity, log-probability or one
-- word of the text does; `gain` is latents minus raw activations at the dictionary's own hook point.
CREATE OR REPLACE VIEW probe_results AS
SELECT
    input ->> 'dataset' AS dataset,
    subject,
    adapter,
    input ->> 'kind' AS kind,
    input ->> 'estimator' AS estimator,
    CAST(output ->> 'layer' AS BIGINT) AS layer,
    CAST(output ->> 'auroc' AS DOUBLE) AS auroc,
    CAST(output ->> 'low' AS DOUBLE) AS low,
    CAST(output ->> 'high' AS DOUBLE) AS high,
    CAST(output ->> 'n' AS BIGINT) AS n,
    CAST(output ->> 'fitted_on' AS BIGINT) AS fitted_on,
    CAST(controls ->> 'shuffled' AS DOUBLE) AS shuffled,
    CAST(controls ->> 'random_direction' AS DOUBLE) AS random_direction,
    greatest(CAST(controls ->> 'surface' AS DOUBLE), CAST(controls ->> 'best_word' AS DOUBLE)) AS surface,
    CAST(output -> 'latents' ->> 'auroc' AS DOUBLE) AS latents,
    CAST(output -> 'latents' ->> 'raw' AS DOUBLE) AS raw,
    CAST(output -> 'latents' ->> 'gain' AS DOUBLE) AS gain,
    CAST(output -> 'latents' ->> 'gain_low' AS DOUBLE) AS gain_low,
    CAST(output -> 'latents' ->> 'gain_high' AS DOUBLE) AS gain_high,
    CAST(output -> 'latents' ->> 'helps' AS BOOLEAN) AS helps,
    CAST(output ->> 'clear' AS BOOLEAN) AS clear,
    output ->> 'probe' AS probe,
    id AS experiment
FROM experiments
WHERE tool = 'train_probe' AND error IS NULL AND input ->> 'dataset' IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY subject, adapter, input ->> 'dataset', input ->> 'kind', input ->> 'estimator'
    ORDER BY created_at DESC, id
) = 1
ORDER BY try_cast(split_part(dataset, '_', 1) AS BIGINT), dataset, kind, estimator;
