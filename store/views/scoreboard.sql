-- How good is each explanation by each scorer? The latest explanation per latent, method and explainer, and the
-- latest score per scorer; `verdict` is the latest review, null while nobody has looked.
CREATE OR REPLACE VIEW scoreboard AS
WITH explanation AS (
    SELECT * FROM explanations
    QUALIFY row_number() OVER (PARTITION BY latent, method, explainer ORDER BY created_at DESC, id) = 1
),
score AS (
    SELECT * FROM scores
    QUALIFY row_number() OVER (PARTITION BY explanation, scorer ORDER BY created_at DESC, id) = 1
),
review AS (
    SELECT * FROM reviews
    QUALIFY row_number() OVER (PARTITION BY explanation ORDER BY created_at DESC, id) = 1
)
SELECT
    explanation.latent,
    explanation.text AS explanation,
    explanation.method,
    explanation.explainer,
    score.scorer,
    score.judge,
    score.value,
    score.low,
    score.high,
    score.chance,
    score.floor,
    score.n,
    score.unparsed,
    review.verdict,
    explanation.id AS explanation_id,
    score.experiment
FROM explanation
JOIN score ON score.explanation = explanation.id
LEFT JOIN review ON review.explanation = explanation.id
ORDER BY
    split_part(explanation.latent, '/', 1), split_part(explanation.latent, '/', 2),
    try_cast(split_part(explanation.latent, '/', 3) AS BIGINT),
    explanation.method, explanation.explainer, score.scorer;
