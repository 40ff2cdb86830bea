-- A role for reports: it reads balances and statements, and can change nothing.
--
--   psql "$DATABASE_URL" -f deploy/reporting_role.sql
--   psql "$DATABASE_URL" -c "ALTER ROLE ledger_reporting PASSWORD '…'"
--
-- Run it as the owner of the tables who may also create roles, again after each new version of
-- the service: what it grants is named here. A standby is the best place for reports.
-- Not granted: idempotency_keys and webhook_events, which hold the bodies of answers and messages.

DO $$
BEGIN
    CREATE ROLE ledger_reporting LOGIN NOINHERIT CONNECTION LIMIT 5;
EXCEPTION
    WHEN duplicate_object THEN NULL;
END
$$;

ALTER ROLE ledger_reporting SET default_transaction_read_only = on;
ALTER ROLE ledger_reporting SET statement_timeout = '60s';
ALTER ROLE ledger_reporting SET lock_timeout = '2s';
-- A snapshot that stays open keeps PostgreSQL from clearing away old versions of hot rows.
ALTER ROLE ledger_reporting SET idle_in_transaction_session_timeout = '60s';

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO ledger_reporting;
GRANT SELECT ON accounts, lots, holds, transactions, entries TO ledger_reporting;
