# bash completion for lakehouse and lakehoused. What it offers is what their help says.

_lakehouse_words()
{
    "$@" 2>/dev/null | grep -oE -- '--[a-z][a-z-]+' | sort -u
}

_lakehouse()
{
    local current=${COMP_WORDS[COMP_CWORD]} first=${COMP_WORDS[1]} second=${COMP_WORDS[2]}
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" help 2>/dev/null |
            grep -oE '(^|  +)[a-z][a-z0-9]+( [a-z]+)?( ID\.\.\.| FILE| COMMAND)?  ' |
            awk '{print $1}' | sort -u) --help --version" -- "$current"))
    elif [[ $COMP_CWORD -eq 2 && ($first == index || $first == lhv1) ]]; then
        COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" help "$first" 2>/dev/null |
            awk '$1 == "usage:" {print $4}' | sort -u)" -- "$current"))
    elif [[ $current == -* ]]; then
        case $first in
        index | lhv1) second="$first $second" ;;
        *) second=$first ;;
        esac
        COMPREPLY=($(compgen -W "$(_lakehouse_words "${COMP_WORDS[0]}" help $second)" -- "$current"))
    else
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}

_lakehoused()
{
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    case $before in
    --config | -c) COMPREPLY=($(compgen -f -- "$current")) ;;
    --set | -s)
        COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" --check 2>/dev/null |
            awk '/^\[/ {section = substr($1, 2, length($1) - 2)}
                 /^(# )?[a-z0-9_]+ = / {sub(/^# /, ""); print section "." $1 "="}')" -- "$current"))
        compopt -o nospace 2>/dev/null
        ;;
    *) COMPREPLY=($(compgen -W "$(_lakehouse_words "${COMP_WORDS[0]}" --help)" -- "$current")) ;;
    esac
}

complete -F _lakehouse lakehouse
complete -F _lakehoused lakehoused
