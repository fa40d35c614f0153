// kpa is Knative's own autoscaler without a cluster: it reads a series of samples and ticks as JSON from standard input,
// and prints as JSON how many pods are desired at each tick; -1 where the autoscaler does not know.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/serving/pkg/autoscaler/aggregation"
	"knative.dev/serving/pkg/autoscaler/config"
	"knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/scaling"
)

// series is what is asked.
type series struct {
	Target          float64 `json:"target"`
	StableWindowMs  int64   `json:"stable_window_ms"`
	PanicWindowMs   int64   `json:"panic_window_ms"`
	PanicThreshold  float64 `json:"panic_threshold"`
	MaxUp           float64 `json:"max_scale_up_rate"`
	MaxDown         float64 `json:"max_scale_down_rate"`
	DelayMs         int64   `json:"scale_down_delay_ms"`
	ActivationScale int32   `json:"activation_scale"`
	Events          []event `json:"events"`
}

// event is a sample of concurrency, or a tick at which so many pods are ready.
type event struct {
	AtMs   int64    `json:"at_ms"`
	Sample *float64 `json:"sample"`
	Ready  *int     `json:"ready"`
}

// observed averages samples as the metric collector does.
type observed struct {
	stable, panic *aggregation.TimedFloat64Buckets
}

func (o *observed) StableAndPanicConcurrency(_ types.NamespacedName, now time.Time) (float64, float64, error) {
	if o.stable.IsEmpty(now) {
		return 0, 0, metrics.ErrNoData
	}
	return o.stable.WindowAverage(now), o.panic.WindowAverage(now), nil
}

func (o *observed) StableAndPanicRPS(types.NamespacedName, time.Time) (float64, float64, error) {
	return 0, 0, metrics.ErrNoData
}

// pods counts what is ready.
type pods struct{ ready int }

func (p *pods) ReadyCount() (int, error)    { return p.ready, nil }
func (p *pods) NotReadyCount() (int, error) { return 0, nil }

func main() {
	var asked series
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintln(os.Stderr, "kpa:", err)
		os.Exit(1)
	}
	window := func(ms int64) *aggregation.TimedFloat64Buckets {
		return aggregation.NewTimedFloat64Buckets(time.Duration(ms)*time.Millisecond, config.BucketSize)
	}
	seen, count := &observed{window(asked.StableWindowMs), window(asked.PanicWindowMs)}, &pods{}
	scaler := scaling.New(context.Background(), "namespace", "revision", seen, count, &scaling.DeciderSpec{
		MaxScaleUpRate:      asked.MaxUp,
		MaxScaleDownRate:    asked.MaxDown,
		ScalingMetric:       "concurrency",
		TargetValue:         asked.Target,
		TotalValue:          asked.Target,
		TargetBurstCapacity: -1,
		PanicThreshold:      asked.PanicThreshold,
		StableWindow:        time.Duration(asked.StableWindowMs) * time.Millisecond,
		ScaleDownDelay:      time.Duration(asked.DelayMs) * time.Millisecond,
		Reachable:           true,
		ActivationScale:     asked.ActivationScale,
	})
	// Whole minutes, so that buckets and windows begin where the series does.
	began := time.Unix(1_000_000_020, 0)
	desired := []int32{}
	for _, next := range asked.Events {
		now := began.Add(time.Duration(next.AtMs) * time.Millisecond)
		if next.Sample != nil {
			seen.stable.Record(now, *next.Sample)
			seen.panic.Record(now, *next.Sample)
		}
		if next.Ready != nil {
			count.ready = *next.Ready
			result := scaler.Scale(zap.NewNop().Sugar(), now)
			if result.ScaleValid {
				desired = append(desired, result.DesiredPodCount)
			} else {
				desired = append(desired, -1)
			}
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(desired); err != nil {
		fmt.Fprintln(os.Stderr, "kpa:", err)
		os.Exit(1)
	}
}
