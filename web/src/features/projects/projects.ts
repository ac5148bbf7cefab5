import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { changeProject, createProject, deleteProject, listProjects } from "../../protocol/history";

export const PROJECTS = ["projects"] as const;

export const useProjects = () => useQuery({ queryKey: PROJECTS, queryFn: ({ signal }) => listProjects(signal), select: ({ data }) => data }).data ?? [];

export interface ProjectWords {
  name: string;
  instructions: string;
}

/** `id` null makes one. */
export function useSaveProject() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ id, ...words }: ProjectWords & { id: string | null }) => (id === null ? createProject(words) : changeProject(id, words)),
    onSettled: () => client.invalidateQueries({ queryKey: PROJECTS }),
  });
}

/** Its conversations stay, outside of it. */
export function useDeleteProject() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: deleteProject,
    onSettled: async () => {
      await client.invalidateQueries({ queryKey: PROJECTS });
      await client.invalidateQueries({ queryKey: ["conversations"] });
    },
  });
}
