package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// report is what load prints at the end.
type report struct {
	Acknowledged        int      `json:"acknowledged"`
	ErrorsInTransaction int      `json:"errors_in_transaction"`
	ErrorsOutside       int      `json:"errors_outside"`
	Unknown             int      `json:"unknown"`
	LongestPauseMS      int64    `json:"longest_pause_ms"`
	FirstErrors         []string `json:"first_errors"`

	mutex sync.Mutex
	file  *os.File
	last  time.Time
}

func (r *report) count(counter *int, err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	*counter++
	if len(r.FirstErrors) < 10 {
		r.FirstErrors = append(r.FirstErrors, err.Error())
	}
}

func (r *report) acknowledge(id int) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	now := time.Now()
	r.Acknowledged++
	r.LongestPauseMS = max(r.LongestPauseMS, now.Sub(r.last).Milliseconds())
	r.last = now
	_, err := fmt.Fprintln(r.file, id)
	return err
}

// load lets workers write through a pool, and prints what became of their transactions.
func load(argument string) error {
	var options struct {
		server
		Seconds float64
		Workers int
		File    string
	}
	if err := json.Unmarshal([]byte(argument), &options); err != nil {
		return err
	}
	db, err := options.open()
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(options.Workers)
	db.SetMaxIdleConns(options.Workers)
	file, err := os.OpenFile(options.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()

	start := time.Now()
	end := start.Add(time.Duration(options.Seconds * float64(time.Second)))
	r := &report{file: file, last: start, FirstErrors: []string{}}
	failures := make(chan error, options.Workers)
	for worker := range options.Workers {
		go func() { failures <- r.work(db, worker*1_000_000_000, end) }()
	}
	for range options.Workers {
		if failed := <-failures; failed != nil {
			err = failed
		}
	}
	if err != nil {
		return err
	}
	r.LongestPauseMS = max(r.LongestPauseMS, time.Since(r.last).Milliseconds())
	text, err := json.Marshal(r)
	fmt.Println(string(text))
	return err
}

// work is one worker, whose numbers begin after first. Its errors are those of the file.
func (r *report) work(db *sql.DB, first int, end time.Time) error {
	ctx := context.Background()
	for id := first + 1; time.Now().Before(end); id++ {
		if _, err := read(db); err != nil {
			r.count(&r.ErrorsOutside, err)
			time.Sleep(10 * time.Millisecond)
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			r.count(&r.ErrorsOutside, err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		for _, table := range []string{"orders", "`lines`"} {
			if _, err = tx.Exec(fmt.Sprintf("INSERT INTO %s(id) VALUES(%d)", table, id)); err != nil {
				break
			}
		}
		if err != nil {
			r.count(&r.ErrorsInTransaction, err)
			_ = tx.Rollback()
			continue
		}
		if err = tx.Commit(); err != nil {
			r.count(&r.ErrorsInTransaction, err)
			if !isAnswer(err) {
				r.count(&r.Unknown, err)
			}
			continue
		}
		if err = r.acknowledge(id); err != nil {
			return err
		}
	}
	return nil
}

func read(db *sql.DB) (count int64, err error) {
	err = db.QueryRow("SELECT COUNT(*) FROM orders WHERE id < 0").Scan(&count)
	return count, err
}

// isAnswer tells whether the server answered, with an error.
func isAnswer(err error) bool {
	var refusal *mysql.MySQLError
	return errors.As(err, &refusal)
}
