-- What should a person look at next? Explanations without a review, the most doubtful first: those whose scorers
-- disagree most, then those with the widest interval; unscored ones last.
CREATE OR REPLACE VIEW unreviewed AS
WITH explanation AS (
    SELECT * FROM explanations
    QUALIFY row_number() OVER (PARTITION BY latent, method, explainer ORDER BY created_at DESC, id) = 1
),
score AS (
    SELECT * FROM scores
    QUALIFY row_number() OVER (PARTITION BY explanation, scorer ORDER BY created_at DESC, id) = 1
)
SELECT
    explanation.latent,
    explanation.text AS explanation,
    explanation.method,
    explanation.explainer,
    count(score.id) AS scorers,
    avg(score.value) AS mean,
    max(score.value) - min(score.value) AS disagreement,
    max(score.high - score.low) AS widest_interval,
    explanation.id AS explanation_id,
    explanation.created_at
FROM explanation
LEFT JOIN score ON score.explanation = explanation.id
WHERE NOT EXISTS (SELECT 1 FROM reviews WHERE reviews.explanation = explanation.id)
GROUP BY ALL
ORDER BY disagreement DESC NULLS LAST, widest_interval DESC NULLS LAST, explanation.latent, explanation.id;
