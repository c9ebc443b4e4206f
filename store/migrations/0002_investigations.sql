-- The agent: investigations, what they asked, offered, ran, judged and concluded. Hypotheses, predictions and calls to
-- LLMs say more than before; rows from before keep their ids, which leave the new columns out at their default.

CREATE TABLE investigations (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    thread VARCHAR NOT NULL,
    question VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    dictionary VARCHAR NOT NULL,
    hook VARCHAR,
    dtype VARCHAR NOT NULL,
    seed BIGINT NOT NULL,
    llm VARCHAR NOT NULL,
    native BOOLEAN NOT NULL,
    limits JSON NOT NULL
);

CREATE TABLE judgements (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    prediction VARCHAR NOT NULL,
    experiment VARCHAR NOT NULL,
    held BOOLEAN,
    value DOUBLE
);

CREATE TABLE tool_offers (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    investigation VARCHAR NOT NULL,
    step VARCHAR NOT NULL,
    round BIGINT NOT NULL,
    tools JSON NOT NULL,
    call VARCHAR
);

CREATE TABLE tool_uses (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    investigation VARCHAR NOT NULL,
    step VARCHAR NOT NULL,
    round BIGINT NOT NULL,
    experiment VARCHAR NOT NULL,
    why VARCHAR NOT NULL
);

CREATE TABLE conclusions (
    id VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    investigation VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    claims JSON NOT NULL
);

ALTER TABLE hypotheses ADD COLUMN investigation VARCHAR;
ALTER TABLE hypotheses ADD COLUMN dull BOOLEAN DEFAULT false;
ALTER TABLE predictions ADD COLUMN counterexample BOOLEAN DEFAULT false;
ALTER TABLE llm_calls ADD COLUMN tool_calls JSON;

CREATE TRIGGER investigations_update BEFORE UPDATE ON investigations FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('investigations is append-only: a correction is a new row');
CREATE TRIGGER investigations_delete BEFORE DELETE ON investigations FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('investigations is append-only: a correction is a new row');
CREATE TRIGGER judgements_update BEFORE UPDATE ON judgements FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('judgements is append-only: a correction is a new row');
CREATE TRIGGER judgements_delete BEFORE DELETE ON judgements FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('judgements is append-only: a correction is a new row');
CREATE TRIGGER tool_offers_update BEFORE UPDATE ON tool_offers FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('tool_offers is append-only: a correction is a new row');
CREATE TRIGGER tool_offers_delete BEFORE DELETE ON tool_offers FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('tool_offers is append-only: a correction is a new row');
CREATE TRIGGER tool_uses_update BEFORE UPDATE ON tool_uses FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('tool_uses is append-only: a correction is a new row');
CREATE TRIGGER tool_uses_delete BEFORE DELETE ON tool_uses FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('tool_uses is append-only: a correction is a new row');
CREATE TRIGGER conclusions_update BEFORE UPDATE ON conclusions FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('conclusions is append-only: a correction is a new row');
CREATE TRIGGER conclusions_delete BEFORE DELETE ON conclusions FOR EACH STATEMENT
    INSERT INTO refusals SELECT error('conclusions is append-only: a correction is a new row');
