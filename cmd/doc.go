// Package cmd is quipu's command line: one file a command. It alone reads flags, environment and config file, opens what
// a command needs in order, and closes it in reverse.
//
// A setting comes from the flag, else from the environment (QUIPU_ADDR for --addr), else from the config file (addr:),
// else from the flag's default.
package cmd
