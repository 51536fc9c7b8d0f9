package enginetest_test

import (
	"context"
	"testing"
	"time"

	"github.com/weir-das/weir/pkg/postgres"
)

// Ends that another session or the clock brings about belong to the statement that met them.
func TestOutcomes(t *testing.T) {
	a := start(t, func(o *postgres.Options) { o.Settings["deadlock_timeout"] = "10ms" })
	a.psql(a.DSN("postgres", "postgres"), "-c", fixture)
	one, two := a.connect(t, "postgres", "postgres").PgConn(), a.connect(t, "postgres", "postgres").PgConn()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first := func(sql string) { _, _ = one.Exec(ctx, sql).ReadAll() }
	second := func(sql string) { _, _ = two.Exec(ctx, sql).ReadAll() }
	a.await("the logins", seen("CONNECT"))

	t.Run("a lock not had in time", func(t *testing.T) {
		a := a.on(t)
		first("begin; lock table t")
		second("set lock_timeout = '10ms'")
		second("select n from t")
		second("do $$begin perform v from t; exception when lock_not_available then null; end$$")
		second("reset lock_timeout")
		first("rollback")
		events := a.await("the end", seen("«rollback»"))
		// The lock is asked for when the statement is analysed: it never had a plan.
		find(t, events, "1 READ SELECT !55P03 canceling statement due to lock timeout «select n from t»")
		find(t, events, "1 FUNCTION DO «do $$begin perform v")
	})
	t.Run("a row's lock not had in time", func(t *testing.T) {
		a := a.on(t)
		first("begin; update t set v = v where n = 1")
		second("set lock_timeout = '10ms'")
		second("update t set v = 'x' where n = 1; select 1")
		second("reset lock_timeout")
		first("rollback")
		find(t, a.await("the end", seen("«rollback»")), "1 WRITE UPDATE TABLE:public.t !55P03 canceling statement due to lock timeout «update t set v = 'x' where n = 1;»")
	})
	t.Run("a deadlock", func(t *testing.T) {
		a := a.on(t)
		first("begin; update t set v = v where n = 1")
		second("begin; update t set v = v where n = 2")
		done := make(chan struct{})
		go func() {
			defer close(done)
			first("update t set v = 'first' where n = 2")
		}()
		second("update t set v = 'second' where n = 1")
		second("rollback")
		<-done
		first("rollback")
		events := a.await("both ends", seen("«rollback»"))
		failed := 0
		for _, e := range events {
			if e.GetSqlstate() == "40P01" && e.GetCommand() == "UPDATE" && e.Rows == nil {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("%d updates failed by deadlock, want 1:\n%s", failed, describeAll(events))
		}
	})
	t.Run("a commit that cannot be serialized", func(t *testing.T) {
		a := a.on(t)
		first("begin isolation level serializable; select sum(n) from t; insert into log values ('one')")
		second("begin isolation level serializable; select count(*) from log; insert into t values (77, 'two')")
		first("commit")
		second("commit")
		events := a.await("the second commit", seen("1 MISC COMMIT !40001 could not serialize access due to read/write dependencies among transactions «commit»"))
		find(t, events, "1 MISC COMMIT «commit»")
		find(t, events, "1 WRITE INSERT TABLE:public.t rows=1 «insert into t values (77, 'two')»")
	})
	t.Run("idle in a transaction for too long", func(t *testing.T) {
		a := a.on(t)
		conn := a.connect(t, "postgres", "postgres").PgConn()
		_, _ = conn.Exec(ctx, "set idle_in_transaction_session_timeout = '10ms'; begin; insert into log values ('idle')").ReadAll()
		events := a.await("its end", seen("DISCONNECT exit=1 !25P03 terminating connection due to idle-in-transaction timeout"))
		find(t, events, "1 WRITE INSERT TABLE:public.log rows=1 «insert into log values ('idle')»")
	})
	t.Run("idle for too long", func(t *testing.T) {
		a := a.on(t)
		if !a.endsIdleSessions() {
			return
		}
		conn := a.connect(t, "postgres", "postgres").PgConn()
		_, _ = conn.Exec(ctx, "set idle_session_timeout = '10ms'").ReadAll()
		a.await("its end", seen("DISCONNECT exit=1 !57P05 terminating connection due to idle-session timeout"))
	})
	t.Run("a time-out in the midst of the rows", func(t *testing.T) {
		a := a.on(t)
		first("set statement_timeout = '100ms'")
		first("select g, pg_sleep(case when g = 3 then 60 else 0 end) from generate_series(1, 5) g")
		first("reset statement_timeout")
		find(t, a.await("its end", seen("«reset statement_timeout»")),
			"1 READ SELECT rows=2 !57014 canceling statement due to statement timeout «select g, pg_sleep(case when g = 3")
	})
}
