-- What do we know about this latent? One row per latest explanation of a latent by a method and explainer, with the
-- evidence its author saw, its latest score per scorer, its latest review, and the runs about the latent that failed.
CREATE OR REPLACE VIEW latent_card AS
WITH explanation AS (
    SELECT * FROM explanations
    QUALIFY row_number() OVER (PARTITION BY latent, method, explainer ORDER BY created_at DESC, id) = 1
),
score AS (
    SELECT * FROM scores
    QUALIFY row_number() OVER (PARTITION BY explanation, scorer ORDER BY created_at DESC, id) = 1
),
scored AS (
    SELECT
        explanation,
        list({
            'scorer': scorer, 'value': value, 'low': low, 'high': high, 'chance': chance, 'floor': floor,
            'n': n, 'unparsed': unparsed, 'judge': judge, 'experiment': experiment
        } ORDER BY scorer) AS scores
    FROM score
    GROUP BY explanation
),
review AS (
    SELECT * FROM reviews
    QUALIFY row_number() OVER (PARTITION BY explanation ORDER BY created_at DESC, id) = 1
),
failed AS (
    SELECT latent, count(*) AS failed_runs FROM experiments WHERE error IS NOT NULL GROUP BY latent
)
SELECT
    explanation.latent,
    explanation.text AS explanation,
    explanation.method,
    explanation.explainer,
    coalesce(scored.scores, []) AS scores,
    review.verdict,
    review.reviewer,
    review.note,
    explanation.evidence,
    explanation.graph,
    coalesce(failed.failed_runs, 0) AS failed_runs,
    explanation.id AS explanation_id,
    explanation.experiment,
    explanation.created_at
FROM explanation
LEFT JOIN scored ON scored.explanation = explanation.id
LEFT JOIN review ON review.explanation = explanation.id
LEFT JOIN failed ON failed.latent = explanation.latent
ORDER BY
    split_part(explanation.latent, '/', 1), split_part(explanation.latent, '/', 2),
    try_cast(split_part(explanation.latent, '/', 3) AS BIGINT),
    explanation.method, explanation.explainer;
