-- Which sentences of which conclusions rest on nothing?
CREATE OR REPLACE VIEW claims_without_evidence AS
WITH claim AS (
    SELECT *, unnest(from_json(claims, '["JSON"]')) AS claim FROM conclusions
)
SELECT
    investigation.thread,
    investigation.question,
    claim.claim ->> 'sentence' AS sentence,
    claim.claim ->> 'author' AS author,
    claim.reason,
    claim.id AS conclusion,
    claim.created_at
FROM claim
JOIN investigations investigation ON investigation.id = claim.investigation
WHERE json_array_length(claim.claim, '$.evidence') = 0
ORDER BY claim.created_at DESC, claim.id;
