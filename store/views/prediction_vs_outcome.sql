-- What was foretold, and what came out? One row per prediction and test; `held` is null while it is undecided.
CREATE OR REPLACE VIEW prediction_vs_outcome AS
SELECT
    investigation.thread,
    hypothesis.claim AS hypothesis,
    hypothesis.dull,
    prediction.tool,
    prediction.measure,
    prediction.comparison,
    prediction.threshold,
    judgement.value,
    judgement.held,
    prediction.counterexample,
    prediction.input,
    judgement.experiment,
    prediction.id AS prediction_id,
    hypothesis.id AS hypothesis_id,
    hypothesis.refines,
    prediction.created_at AS registered_at,
    experiment.created_at AS tested_at
FROM predictions prediction
JOIN hypotheses hypothesis ON hypothesis.id = prediction.hypothesis
LEFT JOIN investigations investigation ON investigation.id = hypothesis.investigation
LEFT JOIN judgements judgement ON judgement.prediction = prediction.id
LEFT JOIN experiments experiment ON experiment.id = judgement.experiment
ORDER BY prediction.created_at, prediction.id;
