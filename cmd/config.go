package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
)

const envPrefix = "QUIPU_"

// loadSettings fills the settings struct of a command (fields tagged `koanf:"flag-name"`) from flags, environment and
// config file. A key of the config file that names no field is an error: a typo must not be ignored.
func loadSettings(cmd *cobra.Command, into any) error {
	k := koanf.New("/")
	path, err := configFile(cmd)
	if err != nil {
		return err
	}
	if path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return fmt.Errorf("config file %s: %s", path, oneLine(err.Error()))
		}
		known := settingNames(into)
		for _, key := range k.Keys() {
			if !slices.Contains(known, key) {
				return fmt.Errorf("config file %s: there is no setting %q; a setting is a flag's name, such as addr: 127.0.0.1:8080", path, key)
			}
			if k.Get(key) == nil {
				return fmt.Errorf("config file %s: %s has no value: give it one, or leave it out", path, key)
			}
		}
	}
	environment := env.Provider(".", env.Opt{Prefix: envPrefix, TransformFunc: func(key, value string) (string, any) {
		if value == "" {
			return "", nil // set to nothing is not set
		}
		name := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(key, envPrefix)), "_", "-")
		if f := cmd.Flags().Lookup(name); f != nil && f.Value.Type() == "stringSlice" {
			return name, strings.Split(value, ",") // as the flag does
		}
		return name, value
	}})
	if err := k.Load(environment, nil); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	if err := k.Load(posflag.Provider(cmd.Flags(), "/", k), nil); err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	if err := k.Unmarshal("", into); err != nil {
		return usageError{fmt.Errorf("settings: %s", oneLine(err.Error()))}
	}
	return nil
}

// configFile is the file that --config or QUIPU_CONFIG names, else the default one if it is there, else none.
func configFile(cmd *cobra.Command) (string, error) {
	path, _ := cmd.Flags().GetString("config")
	if path == "" {
		path = os.Getenv(envPrefix + "CONFIG")
	}
	if path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", nil // no home, no default file
	}
	path = filepath.Join(dir, "quipu", "config.yaml")
	if _, err := os.Stat(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return "", fmt.Errorf("config file: %w", err)
	}
	return path, nil
}

// settingNames lists what can be set.
func settingNames(into any) []string {
	t := reflect.TypeOf(into).Elem()
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("koanf")
	}
	return names
}
