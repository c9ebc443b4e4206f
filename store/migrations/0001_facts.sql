-- One table per noun. Rows are appended and never changed: the triggers below refuse anything else.
-- Columns of type JSON hold canonical JSON, from which the id of a row can be derived again.

CREATE TABLE hypotheses (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    about VARCHAR NOT NULL,
    claim VARCHAR NOT NULL,
    refines VARCHAR
);

CREATE TABLE predictions (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    hypothesis VARCHAR NOT NULL,
    tool VARCHAR NOT NULL,
    input JSON NOT NULL,
    measure VARCHAR NOT NULL,
    comparison VARCHAR NOT NULL,
    threshold DOUBLE NOT NULL
);

CREATE TABLE experiments (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    key VARCHAR NOT NULL,
    tool VARCHAR NOT NULL,
    version BIGINT NOT NULL,
    subject VARCHAR NOT NULL,
    input JSON NOT NULL,
    seed BIGINT NOT NULL,
    latent VARCHAR,
    output JSON,
    error VARCHAR,
    controls JSON NOT NULL,
    seconds DOUBLE NOT NULL,
    device VARCHAR NOT NULL,
    prediction VARCHAR
);

CREATE TABLE explanations (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    latent VARCHAR NOT NULL,
    text VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    explainer VARCHAR NOT NULL,
    experiment VARCHAR,
    evidence JSON NOT NULL,
    graph JSON
);

CREATE TABLE scores (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    explanation VARCHAR NOT NULL,
    experiment VARCHAR NOT NULL,
    scorer VARCHAR NOT NULL,
    judge VARCHAR NOT NULL,
    value DOUBLE NOT NULL,
    low DOUBLE NOT NULL,
    high DOUBLE NOT NULL,
    chance DOUBLE NOT NULL,
    floor DOUBLE,
    n BIGINT NOT NULL,
    unparsed BIGINT NOT NULL
);

CREATE TABLE llm_calls (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    role VARCHAR NOT NULL,
    template VARCHAR NOT NULL,
    template_hash VARCHAR NOT NULL,
    request VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    parameters JSON NOT NULL,
    messages JSON NOT NULL,
    reply VARCHAR NOT NULL,
    finish_reason VARCHAR,
    logprobs JSON,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    usd DOUBLE,
    seconds DOUBLE NOT NULL
);

CREATE TABLE reviews (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    explanation VARCHAR NOT NULL,
    verdict VARCHAR NOT NULL,
    reviewer VARCHAR NOT NULL,
    note VARCHAR NOT NULL,
    rewrite VARCHAR
);

-- DuckDB wants an INSERT as a trigger's action; error() keeps it from ever happening. TRUNCATE counts as DELETE.
CREATE TABLE refusals (reason VARCHAR);

CREATE TRIGGER hypotheses_update BEFORE UPDATE ON hypotheses FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('hypotheses is append-only: a correction is a new row');
CREATE TRIGGER hypotheses_delete BEFORE DELETE ON hypotheses FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('hypotheses is append-only: a correction is a new row');
CREATE TRIGGER predictions_update BEFORE UPDATE ON predictions FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('predictions is append-only: a correction is a new row');
CREATE TRIGGER predictions_delete BEFORE DELETE ON predictions FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('predictions is append-only: a correction is a new row');
CREATE TRIGGER experiments_update BEFORE UPDATE ON experiments FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('experiments is append-only: a correction is a new row');
CREATE TRIGGER experiments_delete BEFORE DELETE ON experiments FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('experiments is append-only: a correction is a new row');
CREATE TRIGGER explanations_update BEFORE UPDATE ON explanations FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('explanations is append-only: a correction is a new row');
CREATE TRIGGER explanations_delete BEFORE DELETE ON explanations FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('explanations is append-only: a correction is a new row');
CREATE TRIGGER scores_update BEFORE UPDATE ON scores FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('scores is append-only: a correction is a new row');
CREATE TRIGGER scores_delete BEFORE DELETE ON scores FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('scores is append-only: a correction is a new row');
CREATE TRIGGER llm_calls_update BEFORE UPDATE ON llm_calls FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('llm_calls is append-only: a correction is a new row');
CREATE TRIGGER llm_calls_delete BEFORE DELETE ON llm_calls FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('llm_calls is append-only: a correction is a new row');
CREATE TRIGGER reviews_update BEFORE UPDATE ON reviews FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('reviews is append-only: a correction is a new row');
CREATE TRIGGER reviews_delete BEFORE DELETE ON reviews FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('reviews is append-only: a correction is a new row');
