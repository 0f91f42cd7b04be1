// The tables of a store in PostgreSQL.
#pragma once

namespace espalier::server::store {

constexpr int kPgSchemaVersion = 2;

// What every version has, so that any two of them agree on who holds the lease. A lease is good for
// some seconds after `renewed`; `version` is that of the other tables, 0 before there are any.
constexpr const char* kPgLeaseTable =
    "CREATE TABLE IF NOT EXISTS espalier.lease (id bigint PRIMARY KEY CHECK (id = 0), "
    "owner text NOT NULL, holder text NOT NULL, renewed timestamptz NOT NULL, "
    "version bigint NOT NULL)";

// What leads from each version to the next one. Bytes are stored as they are: numbers of models do not
// get shorter by compression.
constexpr const char* kPgMigrations[kPgSchemaVersion][14] = {
    {
        "CREATE TABLE life (id bigint PRIMARY KEY CHECK (id = 0), incarnation bigint NOT NULL, "
        "commits bigint NOT NULL)",
        // What is the same for all coordinators of this store.
        "CREATE TABLE agreed (what text PRIMARY KEY, value text NOT NULL)",
        "CREATE TABLE jobs (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "name text NOT NULL UNIQUE, accepted bytea NOT NULL)",
        // What changes at different times is in tables of its own, since a row is written whole.
        "CREATE TABLE records (job bigint PRIMARY KEY, contents bytea NOT NULL)",
        "CREATE TABLE progress (job bigint PRIMARY KEY, contents bytea NOT NULL)",
        "CREATE TABLE states (job bigint PRIMARY KEY, contents bytea NOT NULL)",
        "ALTER TABLE states ALTER COLUMN contents SET STORAGE EXTERNAL",
        "CREATE TABLE events (job bigint NOT NULL, sequence bigint NOT NULL, event bytea NOT NULL, "
        "PRIMARY KEY (job, sequence))",
        // Of steps in work; and of which it is remembered that they counted.
        "CREATE TABLE updates (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "job bigint NOT NULL, id bytea NOT NULL, fingerprint bytea NOT NULL, contents bytea NOT "
        "NULL)",
        "ALTER TABLE updates ALTER COLUMN contents SET STORAGE EXTERNAL",
        "CREATE INDEX updates_of_jobs ON updates (job)",
        // Without gaps, which numbers that a sequence draws would have: the newest are told by their
        // numbers.
        "CREATE TABLE counted (number bigint PRIMARY KEY, job bigint NOT NULL, id bytea NOT NULL, "
        "fingerprint bytea NOT NULL)",
        // Every transaction begins with it, one after the other. ESL01: it is of an earlier life. ESL02: it
        // is there already, and its answer was lost. ESL03: those before it are gone, which this
        // coordinator has told of.
        "CREATE FUNCTION begin_commit(mine bigint, number bigint) RETURNS void LANGUAGE plpgsql AS "
        "$$ "
        "DECLARE last bigint; "
        "BEGIN SELECT commits INTO last FROM espalier.life WHERE incarnation = mine FOR UPDATE; "
        "IF NOT FOUND THEN RAISE EXCEPTION 'the lease is over' USING ERRCODE = 'ESL01'; "
        "ELSIF last >= number THEN RAISE EXCEPTION 'it is there' USING ERRCODE = 'ESL02'; "
        "ELSIF last < number - 1 THEN RAISE EXCEPTION 'commits are gone' USING ERRCODE = 'ESL03'; "
        "END IF; "
        "UPDATE espalier.life SET commits = number; END $$",
        nullptr,
    },
    {
        "CREATE TABLE access (name text PRIMARY KEY, contents bytea NOT NULL)",
        nullptr,
    }};

}  // namespace espalier::server::store
