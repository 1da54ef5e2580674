package response

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// podState is what matters of a pod (k8s.io/api core/v1).
type podState struct {
	Metadata struct {
		DeletionTimestamp time.Time `json:"deletionTimestamp"`
	} `json:"metadata"`
	Status struct {
		Conditions []struct {
			Type, Status       string
			LastTransitionTime time.Time `json:"lastTransitionTime"`
		} `json:"conditions"`
		Containers     []containerState `json:"containerStatuses"`
		InitContainers []containerState `json:"initContainerStatuses"` // those that go on beside the others
	} `json:"status"`
}

type containerState struct {
	Name        string `json:"name"`
	ContainerID string `json:"containerID"` // runtime://ID
	Ready       bool   `json:"ready"`
	Started     *bool  `json:"started"` // by its startup probe, if it has one
	State       struct {
		Running *struct {
			StartedAt time.Time `json:"startedAt"`
		} `json:"running"`
	} `json:"state"`
}

// look judges the container with an id. Its pod's condition tells since when not all of the pod is ready: if it became so
// after this container was started, this container was ready too.
func (p *podState) look(id string) Look {
	c := p.container(id)
	switch {
	case c == nil || c.State.Running == nil:
		return Look{Readiness: Changing, Why: "the container has ended"}
	case c.Ready:
		return Look{Readiness: Ready}
	case !p.Metadata.DeletionTimestamp.IsZero():
		return Look{Readiness: Changing, Why: "its pod is to be deleted"}
	case c.Started != nil && !*c.Started:
		return Look{Readiness: Changing, Why: "the container is starting"}
	}
	look := Look{Readiness: NotReady, Why: "container " + c.Name + " is not ready"}
	for _, condition := range p.Status.Conditions {
		at := condition.LastTransitionTime
		if condition.Type == "ContainersReady" && condition.Status == "False" && at.After(c.State.Running.StartedAt) {
			look.WasReady, look.Since = true, at.Add(time.Second) // it is cut to seconds
		}
	}
	return look
}

func (p *podState) container(id string) *containerState {
	for _, list := range [][]containerState{p.Status.Containers, p.Status.InitContainers} {
		for i := range list {
			if _, theirs, _ := strings.Cut(list[i].ContainerID, "://"); theirs == id {
				return &list[i]
			}
		}
	}
	return nil
}

// look asks for a pod, and how its container with that id is. The id tells it from those of another pod of the name.
func (a *API) look(ctx context.Context, p Pod, containerID string) (Look, error) {
	if !isName(p.Namespace) || !isName(p.Name) {
		return Look{}, fmt.Errorf("read pod %.80q of %.80q: these are no names of Kubernetes", p.Name, p.Namespace)
	}
	// What the server remembers will do: it need not ask its store.
	text, err := a.request(ctx, http.MethodGet, p.path()+"?resourceVersion=0", nil)
	if err != nil {
		return Look{}, fmt.Errorf("read pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	var state podState
	if err := json.Unmarshal(text, &state); err != nil {
		return Look{}, fmt.Errorf("read pod %s/%s: the answer is none: %w", p.Namespace, p.Name, err)
	}
	return state.look(containerID), nil
}
